#!/bin/sh
# Checks a voice gateway: health, today's cost, budgets and latency. Every check is made, whatever the others say.
#
#   VOICEGW_URL        http://HOST:8080/mcp (or /sse)
#   VOICEGW_MCP_TOKEN  a token; one with the role viewer is enough
#   MAX_USD            most that may be spent today (default 10)
#   MAX_P95_MS         slowest 95th percentile of the last 24 hours (default 2000)
#   PROJECTS           ids whose budgets are checked, with blanks between (default: default)
#
# Exit code: 0 all is well, 4 a check failed, else that of `voicegw call` when a check could not be made.
set -u

: "${VOICEGW_URL:?is not set}"
: "${VOICEGW_MCP_TOKEN:?is not set}"

worst=0

check() { # check CONDITION TOOL [KEY=VALUE ...]
    condition=$1
    shift
    voicegw call "$@" --url "$VOICEGW_URL" --token-env VOICEGW_MCP_TOKEN --json --fail-if "$condition"
    code=$?
    if [ "$code" -ne 0 ]; then
        echo "check-gateway: $1 ended with exit code $code" >&2
        # A check that could not be made outweighs one that failed.
        if [ "$worst" -eq 0 ] || [ "$worst" -eq 4 ]; then worst=$code; fi
    fi
}

check 'status != "ok"' get_health
check "total_usd > ${MAX_USD:-10}" get_costs period=today
for project in ${PROJECTS:-default}; do
    check 'budget_status == "exceeded"' get_project project_id="$project"
done
check "overall.request_count > overall.error_count and overall.latency_percentiles.p95 > ${MAX_P95_MS:-2000}" \
    get_latency_stats period=last_24h

exit "$worst"
