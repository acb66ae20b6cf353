#!/bin/bash
# room.sh FOLDER: how full the file system of a folder is, which need not be there yet: the per cent that are
# used, and the MiB that are left.

folder=$1
while [ ! -d "$folder" ]; do
    folder=${folder%/*}
    folder=${folder:-/}
done
df --output=pcent,avail --block-size=1M "$folder" | tail --lines=1 | tr --delete %
