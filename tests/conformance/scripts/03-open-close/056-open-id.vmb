# The open id is the guest's own and comes back as it was.
case 056
version 5.3
offer
gpadl
G> OPEN_CHANNEL relid=1 open_id=0xDEADBEEF
H< open relid=1
H> done(0)
G< OPEN_RESULT relid=1 open_id=0xDEADBEEF status=0
