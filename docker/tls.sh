#!/bin/sh
# Writes into a folder what Redis needs for TLS: tls.crt and tls.key, signed for the names that
# follow, and ca.crt, by which others know it. For docker/secrets.sh and k8s/secrets.sh.
#   sh docker/tls.sh FOLDER NAME...
set -eu
out=$1
shift
name=$1
names=IP:127.0.0.1
for each in "$@"; do names="$names,DNS:$each"; done
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
key="-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
years=3650

# The authority signs this one certificate; its key is kept nowhere, so that it never signs another.
openssl req -x509 $key -days "$years" -subj "/CN=authority of $name" \
  -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign \
  -keyout "$made/ca.key" -out "$out/ca.crt" 2>"$made/said" || { cat "$made/said" >&2; exit 1; }
openssl req $key -subj "/CN=$name" -keyout "$out/tls.key" -out "$made/request" 2>"$made/said" ||
  { cat "$made/said" >&2; exit 1; }
cat >"$made/extensions" <<END
subjectAltName=$names
extendedKeyUsage=serverAuth
keyUsage=digitalSignature
subjectKeyIdentifier=hash
authorityKeyIdentifier=keyid
END
openssl x509 -req -in "$made/request" -CA "$out/ca.crt" -CAkey "$made/ca.key" -days "$years" \
  -extfile "$made/extensions" -out "$out/tls.crt" 2>"$made/said" || { cat "$made/said" >&2; exit 1; }
