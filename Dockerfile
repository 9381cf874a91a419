# VitalCheck in a container: no torch, not root, nothing written outside /var/lib/vitalcheck and /tmp.
#
#   docker build --tag vitalcheck . && docker run --read-only --tmpfs /tmp --volume vitalcheck:/var/lib/vitalcheck vitalcheck

FROM python:3.11-slim-bookworm AS build
WORKDIR /src
RUN python -m venv /opt/vitalcheck
COPY pyproject.toml constraints.txt README.md LICENSE NOTICE ./
COPY listener ./listener
COPY pipeline ./pipeline
COPY models ./models
COPY scripts ./scripts
RUN /opt/vitalcheck/bin/python -m pip install --no-cache-dir --constraint constraints.txt .

FROM python:3.11-slim-bookworm
RUN groupadd --gid 10001 vitalcheck \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin vitalcheck \
    && install --directory --owner=10001 --group=10001 --mode=0700 /var/lib/vitalcheck
COPY --from=build /opt/vitalcheck /opt/vitalcheck
COPY deploy/vitalcheck.toml /etc/vitalcheck/vitalcheck.toml
ENV PATH=/opt/vitalcheck/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    VITALCHECK_STATE__DIR=/var/lib/vitalcheck
USER 10001:10001
VOLUME ["/var/lib/vitalcheck"]
EXPOSE 11112 8787
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8787/healthz', timeout=3)"]
ENTRYPOINT ["vitalcheck"]
CMD ["serve", "--config", "/etc/vitalcheck/vitalcheck.toml"]
