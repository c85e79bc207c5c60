#!/bin/sh
# Writes the secrets of a namespace as files, once, readable for you alone:
#   sh k8s/secrets.sh secrets
#   kubectl create secret generic plaudit-api-keys --from-file=secrets/plaudit-api-keys
#   kubectl create secret generic plaudit-redis --from-file=secrets/plaudit-redis
#   kubectl create secret generic plaudit-redis-tls --from-file=secrets/plaudit-redis-tls
# secrets/operator/url is for you and `plaudit cache`, and for no Secret.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=${1:?name a folder to write to, such as: sh k8s/secrets.sh secrets}
umask 077
mkdir "$out" "$out/plaudit-api-keys" "$out/plaudit-redis" "$out/plaudit-redis-tls" "$out/operator"

# One key a line, or its digest: plaudit keys new. To rotate: two keys, SIGHUP to the servers once the
# volume has them, move the callers, one key, SIGHUP.
openssl rand -hex 32 >"$out/plaudit-api-keys/keys"

sha256() { printf %s "$1" | openssl dgst -sha256 -r | cut -c 1-64; }
password=$(openssl rand -hex 32)
operator=$(openssl rand -hex 32)
at="plaudit-redis:6379/0?ssl_ca_certs=/run/secrets/redis-tls/ca.crt"
printf 'rediss://plaudit:%s@%s' "$password" "$at" >"$out/plaudit-redis/url"
printf %s "$(openssl rand -hex 32)" >"$out/plaudit-redis/checksum"
printf 'rediss://plaudit-operator:%s@%s' "$operator" "$at" >"$out/operator/url"
# Plaudit's user may read and write its own keys and nothing else; the operator's may count and
# remove them; without a password, a ping.
cat >"$out/plaudit-redis/users.acl" <<END
user default on nopass -@all +ping
user plaudit on #$(sha256 "$password") ~plaudit:* resetchannels -@all +get +mget +set +ping
user plaudit-operator on #$(sha256 "$operator") ~plaudit:* resetchannels -@all +ping +info +scan +pttl +memory|usage +unlink
END
# tls.crt, tls.key and ca.crt, as cert-manager names them too.
sh "$here/../docker/tls.sh" "$out/plaudit-redis-tls" plaudit-redis
