# docker build -t fedlab . && docker run --rm -v "$PWD/runs:/home/fedlab/runs" fedlab run quickstart
FROM python:3.12-slim
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY fedlab fedlab
COPY attacks attacks
COPY simulations simulations
RUN pip install --no-cache-dir --constraint constraints.txt . \
    && useradd --create-home --uid 1000 fedlab
USER fedlab
WORKDIR /home/fedlab
ENV FLWR_TELEMETRY_ENABLED=0
ENTRYPOINT ["fedlab"]
