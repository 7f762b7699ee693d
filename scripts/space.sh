#!/bin/sh
# space.sh MEGABYTES:FOLDER...: fails, with a line for each disk, if the folders need more room than their disks have.
# A folder that is not there yet will be on the disk of the nearest one above it.
set -eu

for need; do
	dir="${need#*:}"
	while [ ! -d "$dir" ]; do dir="$(dirname "$dir")"; done
	df -Pm "$dir" | awk -v need="${need%%:*}" -v dir="${need#*:}" 'NR == 2 { print $6 "|" $4 "|" need "|" dir }'
done | awk -F'|' '
	{ free[$1] = $2; need[$1] += $3; of[$1] = of[$1] (of[$1] == "" ? "" : ", ") $4 }
	END {
		for (disk in need) if (free[disk] < need[disk]) {
			printf "setup: the tests need %.1f GB in %s, and its disk (%s) has %.1f GB free\n", need[disk] / 1000, of[disk], disk, free[disk] / 1000
			bad = 1
		}
		exit bad
	}' >&2
