# Backstamp in a container: no build tools in the final image, no root, the queue on a volume.
#
#   docker build -t backstamp .
#   docker run -v queue:/var/lib/backstamp/queue -v ./my.toml:/etc/backstamp/backstamp.toml:ro backstamp

FROM python:3.11-slim AS build
WORKDIR /build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_INPUT=1
RUN python -m venv /opt/backstamp
# Requirements first: they change less often than the code, and their layer is kept.
COPY requirements/runtime.txt requirements/build.txt requirements/
RUN /opt/backstamp/bin/pip install --require-hashes -r requirements/runtime.txt \
 && pip install --require-hashes -r requirements/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
 && /opt/backstamp/bin/pip install --no-deps dist/*.whl

FROM python:3.11-slim
RUN useradd --system --uid 10025 --home-dir /var/lib/backstamp --shell /usr/sbin/nologin backstamp \
 && install -d -o backstamp -g backstamp /var/lib/backstamp/queue
COPY --from=build /opt/backstamp /opt/backstamp
COPY conf/docker.toml /etc/backstamp/backstamp.toml
ENV PATH=/opt/backstamp/bin:$PATH PYTHONUNBUFFERED=1
USER backstamp
WORKDIR /var/lib/backstamp
VOLUME /var/lib/backstamp/queue
EXPOSE 2525 8025
# SIGTERM drains: transactions past their final dot read their reply first.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
  CMD ["python", "-c", "import urllib.request as ask; ask.build_opener(ask.ProxyHandler({})).open('http://127.0.0.1:8025/readyz', timeout=2)"]
ENTRYPOINT ["backstamp"]
CMD ["serve", "--config", "/etc/backstamp/backstamp.toml"]
