# Between rescind and release, open and close are ignored and are no trouble either.
case 060
version 5.3
offer
gpadl
revoke relid=1
G< RESCIND_OFFER relid=1
G> OPEN_CHANNEL relid=1
G> CLOSE_CHANNEL relid=1
= refused 0
H< silence
