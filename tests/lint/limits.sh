#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Limits are compared in one place: outside of config and ledger no module of the daemon reads a key of [limits], but to
# size a table of what the ledger lets in.
set -u
allowed='daemon/(tier/(ddr|nvme_file)|service/memory_setup)\.c:[0-9]+:.*\blimit_blocks\b' # extents for so many blocks
allowed+='|daemon/tier/ddr_nodes\.c:[0-9]+:.*\blimit_block_bytes;' # no part of a tier is smaller
allowed+='|daemon/cache/cache\.c:[0-9]+:.*\bconfig->limit_(pinned|retained);'              # a share of each tier, set there

if grep -rnE '(->|[a-z)]\.)limit_[a-z_]+\b' daemon --include='*.[ch]' | grep -vE '^daemon/(config|ledger)/|limit_in_bytes' | grep -vE "^($allowed)"; then
	echo "read a limit through daemon/ledger/ledger.h"
	exit 1
fi

echo "ok limits"
