# The server in a container: `docker build -t voicegw .` at the root of the checkout. docs/deployment.md tells how to run it.
# tests/e2e/test_container.py reads ENTRYPOINT, CMD, ENV and HEALTHCHECK from here and runs them.
FROM python:3.11-slim-bookworm AS build
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src src
# The wheel is what a release is; its dependencies are those that the tests ran with.
RUN python -m pip wheel --no-cache-dir --no-deps --wheel-dir /wheels . \
 && python -m venv /opt/voicegw \
 && /opt/voicegw/bin/pip install --no-cache-dir --constraint constraints.txt /wheels/*.whl

FROM python:3.11-slim-bookworm
LABEL org.opencontainers.image.title="voicegw-mcp" \
      org.opencontainers.image.description="MCP server with which coding agents manage a voice-AI gateway" \
      org.opencontainers.image.licenses="MIT"
# A number that no user of the host has; /data is made here so that a new volume on it belongs to that user.
RUN groupadd --gid 10001 voicegw \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin voicegw \
 && install --directory --owner=10001 --group=10001 --mode=0700 /data /backups
COPY --from=build /opt/voicegw /opt/voicegw
COPY --chmod=0755 deploy/keep-backups.sh /usr/local/bin/voicegw-keep-backups
ENV PATH=/opt/voicegw/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    VOICEGW_CONFIG=/etc/voicegateway/voicegw.yaml \
    VOICEGW_DB_PATH=/data/voicegw.db \
    VOICEGW_OVERLAY=/data/voicegw.overlay.yaml
# Numbers, so that Kubernetes can tell that this is not root.
USER 10001:10001
WORKDIR /data
VOLUME /data
# The whole server, and the dashboard's own port (--dashboard-port), which asks for the same tokens.
EXPOSE 8080 9090
STOPSIGNAL SIGTERM
# /health needs no token; Python is there, curl is not.
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s --retries=3 \
  CMD ["python", "-c", "import http.client, sys; c = http.client.HTTPConnection('127.0.0.1', 8080, timeout=4); c.request('GET', '/health'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["voicegw"]
CMD ["serve", "--host", "0.0.0.0"]
