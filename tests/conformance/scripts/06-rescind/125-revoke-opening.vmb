# Revoked while the device opens: its late answer is dropped.
case 125
version 5.3
offer
gpadl
G> OPEN_CHANNEL relid=1
H< open relid=1
revoke relid=1
G< RESCIND_OFFER relid=1
H> done(0)
= refused 1
G< silence
