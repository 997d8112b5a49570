#!/usr/bin/env bash
# Three payment servers on one PostgreSQL, on this machine, for trying out. Needs PostgreSQL's initdb and pg_ctl
# (Debian: apt-get install postgresql) and deno. Everything is in a temporary folder; Ctrl-C ends and removes it.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -1 || true)
bin=${bin:-$(dirname "$(command -v pg_ctl)")}
folder=$(mktemp -d)
database_port=${DATABASE_PORT:-54320}
first_port=${FIRST_PORT:-8081}

# PostgreSQL refuses to run as root.
as_user() {
  if [ "$(id -u)" = 0 ]; then runuser -u nobody -- "$@"; else "$@"; fi
}
finish() {
  trap - EXIT INT TERM
  kill $(jobs -p) 2>/dev/null || true
  wait || true
  as_user "$bin/pg_ctl" --pgdata="$folder/cluster" --mode=fast --silent stop || true
  rm -rf "$folder"
}
trap finish EXIT INT TERM

chmod 755 "$folder"
mkdir "$folder/cluster"
if [ "$(id -u)" = 0 ]; then chown nobody "$folder/cluster"; fi
head -c 24 /dev/urandom | base64 | tr -d '+/=' >"$folder/password"
chmod 644 "$folder/password"
as_user "$bin/initdb" --pgdata="$folder/cluster" --username=sealwire --pwfile="$folder/password" \
  --auth=scram-sha-256 --encoding=UTF8 --locale=C >/dev/null
chmod 600 "$folder/password"
as_user "$bin/pg_ctl" --pgdata="$folder/cluster" --silent --wait --log="$folder/cluster/log" \
  --options="-p $database_port -c listen_addresses=127.0.0.1 -c unix_socket_directories=''" start

export PGPASSWORD
PGPASSWORD=$(cat "$folder/password")
url="postgres://sealwire@127.0.0.1:$database_port/postgres"
deno=${DENO:-deno}
"$deno" run -A server.ts keygen --quiet --keys "$folder/keys"
for number in 0 1 2; do
  "$deno" run -A server.ts $((first_port + number)) --host 127.0.0.1 --keys "$folder/keys" --db "$url" \
    --quiet &
done

pay() {
  "$deno" run -A client.ts 127.0.0.1 "$1" "${@:2}" --keys "$folder/keys" --quiet --timeout 10
}
for number in 0 1 2; do
  until (: <"/dev/tcp/127.0.0.1/$((first_port + number))") 2>/dev/null; do sleep 0.2; done
done
pay "$first_port" register --as alice
pay $((first_port + 1)) register --as bob
pay $((first_port + 2)) pay bob 12.50 --as alice
pay "$first_port" balance --as bob
"$deno" run -A server.ts audit --keys "$folder/keys" --db "$url"
if [ "${1:-}" = --once ]; then exit; fi
echo "Three servers run on the ports $first_port to $((first_port + 2)). Keys: $folder/keys. Ctrl-C ends them."
echo "Try: $deno run -A client.ts 127.0.0.1:$first_port,127.0.0.1 $((first_port + 1)) listen --as bob --keys $folder/keys"
wait
