# Revoked while the device closes: its answer comes too late.
case 125
version 5.3
offer
open relid=1
G> CLOSE_CHANNEL relid=1
H< close relid=1
revoke relid=1
G< RESCIND_OFFER relid=1
H> done
= refused 1
