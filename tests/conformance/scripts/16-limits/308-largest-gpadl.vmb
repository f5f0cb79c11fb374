# 8191 words, one range of 8190 pages, is the most that the length field can say.
case 308
version 5.3
offer
G> GPADL relid=1 gpadl=1 pages=8190
H< gpadl gpadl=1 pages=8190 bytes=33546240
H> done
G< GPADL_CREATED gpadl=1 status=OK
