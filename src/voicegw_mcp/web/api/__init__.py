"""The JSON API under /v1, reads only: the reports of the tools at VoiceGateway's addresses, by the same functions of the core."""
