#!/usr/bin/env bash
# A club in 20 lines: a server, three members, a grant, a request paid by link, a refund, a monthly statement, the books
# read by hledger, and an audit. Run it anywhere: bash docs/club.sh
set -euo pipefail
sealwire=$(cd "$(dirname "$0")/.." && pwd)
cd "$(mktemp -d)"
as() { name=$1; shift; deno run -A "$sealwire/client.ts" localhost "$port" "$@" --as "$name" --keys "$name" --quiet; }
serve=(deno run -A "$sealwire/server.ts")
"${serve[@]}" 0 --json --quiet --opening-balance 100 --unit EUR > listening & trap "kill $!" EXIT
until [ -s listening ]; do sleep 0.2; done; port=$(sed -E 's/.*"port":([0-9]+).*/\1/' listening)
for name in ada ben cleo; do as "$name" register --accept-new; done
"${serve[@]}" grant ada 50                                 # the club's treasurer hands out money
link=$(as ben request --anyone 12.50 pizza --link | tail -n 1)
as cleo pay "$link"                                        # paid by link, or by its QR code
payment=$(as cleo history --json | sed -nE 's/.*"payment":"([^"]+)".*pizza.*/\1/p')
as ben refund "$payment" 2.50                              # one slice was left over
as cleo statement
as cleo statement --html statement.html
as cleo history --ledger | hledger -f - bal --no-total
"${serve[@]}" audit --quiet
