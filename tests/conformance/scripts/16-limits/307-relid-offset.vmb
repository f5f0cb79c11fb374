# An offset of 100: the first relid is 101.
case 307
option relid-offset=100
version 5.3
offer instance=1 relid=101
offer instance=2 relid=102
G> CLOSE_CHANNEL relid=1
= refused 1
open relid=101
open relid=102
= relids 2
