#!/bin/sh
# Writes .env for docker-compose.yml, once: random keys and passwords, readable for you alone.
set -eu
cd "${1:-$(dirname "$0")/..}"
if [ -e .env ]; then
  echo ".env is there already: remove it, and the volumes (docker compose down -v), for new secrets" >&2
  exit 1
fi
umask 077
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
