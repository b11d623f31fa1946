# The library and the `coord` command, for a Redis or Valkey elsewhere:
#   docker build -t coord . && docker run --rm -e COORD_URL=redis://HOST:6379 coord coord doctor
FROM python:3.13-slim

WORKDIR /usr/src/coord
COPY pyproject.toml README.md LICENSE ./
COPY coord ./coord
RUN pip install --no-cache-dir '.[metrics,web]' && useradd --system --create-home coord

# For docker-compose.yml: what its nodes, its application and its gateway run, and a place to mount something.
COPY compose/node compose/app compose/web /usr/local/bin/
RUN mkdir /mnt/abc

USER coord
WORKDIR /home/coord
CMD ["coord", "--help"]
