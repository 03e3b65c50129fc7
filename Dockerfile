# weldr in a small image, without root. Build: docker build -t weldr .
FROM python:3.13-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY weldr ./weldr
RUN python -m venv /opt/weldr \
 && /opt/weldr/bin/pip install --no-cache-dir --disable-pip-version-check '.[otel]' \
 && /opt/weldr/bin/python -m compileall -q /opt/weldr/lib \
 && /opt/weldr/bin/pip uninstall --yes --quiet pip

FROM python:3.13-slim
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin weldr
COPY --from=build /opt/weldr /opt/weldr
ENV PATH=/opt/weldr/bin:$PATH PYTHONUNBUFFERED=1
USER 10001:10001
# Ports above 1024, so that no capability is needed.
EXPOSE 8080 8687
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=3s --start-period=20s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8687/healthz', timeout=2)"]
ENTRYPOINT ["weldr"]
CMD ["run", "--listen", ":8080"]
