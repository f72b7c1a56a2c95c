# The engine alone. Site file, mappings and adapters can be laid over /etc/radbridge; state is in /var/lib/radbridge.
FROM python:3.12-slim

COPY pyproject.toml README.md LICENSE /src/
COPY bridge /src/bridge
COPY channels /src/channels
COPY mappings /src/mappings
COPY adapters /src/adapters
COPY config /src/config
RUN pip install --no-cache-dir /src \
    && mkdir -p /etc/radbridge /var/lib/radbridge \
    && cp -r /src/config /src/mappings /src/adapters /etc/radbridge/ \
    && rm -rf /src \
    && useradd --system --no-create-home radbridge \
    && chown radbridge /var/lib/radbridge

USER radbridge
ENV RADBRIDGE_DATA=/var/lib/radbridge \
    RADBRIDGE_LISTEN=0.0.0.0 \
    RADBRIDGE_WEB_LISTEN=0.0.0.0:8080
VOLUME /var/lib/radbridge
EXPOSE 2575 2577 8080 11112
CMD ["radbridge", "run", "--config", "/etc/radbridge/config/bridge.yaml"]
