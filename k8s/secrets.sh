#!/bin/sh
# Writes the secrets of a namespace as files, once, readable for you alone:
#   sh k8s/secrets.sh secrets
#   kubectl create secret generic plaudit-api-keys --from-file=secrets/plaudit-api-keys
#   kubectl create secret generic plaudit-redis --from-file=secrets/plaudit-redis
set -eu
out=${1:?name a folder to write to, such as: sh k8s/secrets.sh secrets}
umask 077
mkdir "$out" "$out/plaudit-api-keys" "$out/plaudit-redis"

# One key a line. To rotate: two keys, restart, move the callers, one key, restart.
openssl rand -hex 32 >"$out/plaudit-api-keys/keys"

password=$(openssl rand -hex 32)
hash=$(printf %s "$password" | openssl dgst -sha256 -r | cut -c 1-64)
printf 'redis://plaudit:%s@plaudit-redis:6379/0' "$password" >"$out/plaudit-redis/url"
printf %s "$(openssl rand -hex 32)" >"$out/plaudit-redis/checksum"
# Plaudit's user may read and write its own keys and nothing else; without a password, a ping.
cat >"$out/plaudit-redis/users.acl" <<END
user default on nopass -@all +ping
user plaudit on #$hash ~plaudit:* resetchannels -@all +get +mget +set +expire +ping
END
