#!/bin/bash
# orders.total: what each customer has spent.
set -euo pipefail

jq -c '{result: (.orders | group_by(.customer) | map({(.[0].customer): map(.cents) | add}) | add // {})}'
