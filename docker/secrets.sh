#!/bin/sh
# Writes .env and docker/tls for docker-compose.yml, once: random keys and passwords, and Redis'
# certificate, readable for you alone.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cd "${1:-$here/..}"
if [ -e .env ]; then
  echo ".env is there already: remove it, and the volumes (docker compose down -v), for new secrets" >&2
  exit 1
fi
umask 077
rm -rf docker/tls
mkdir -p docker/tls
sh "$here/tls.sh" docker/tls redis
# The folder keeps others out. In the containers, which get the files one by one, another user reads.
chmod 644 docker/tls/*
redis=$(openssl rand -hex 32)
operator=$(openssl rand -hex 32)
cat >.env <<END
PLAUDIT_API_KEYS=$(openssl rand -hex 32)
PLAUDIT_CACHE_SECRET=$(openssl rand -hex 32)
GRAFANA_PASSWORD=$(openssl rand -hex 16)
REDIS_PASSWORD=$redis
REDIS_PASSWORD_SHA256=$(printf %s "$redis" | openssl dgst -sha256 -r | cut -c 1-64)
REDIS_OPERATOR_PASSWORD=$operator
REDIS_OPERATOR_PASSWORD_SHA256=$(printf %s "$operator" | openssl dgst -sha256 -r | cut -c 1-64)
END
