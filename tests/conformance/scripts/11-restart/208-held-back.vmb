# What could not be sent is still held back, comes in its order, and once.
case 208
version 6.0 features=PAUSE_RESUME
offer
gpadl relid=1
G> OPEN_CHANNEL relid=1
H< open relid=1
G> PAUSE
G< PAUSE_RESPONSE
H> done(0)
H> offer instance=2
guest blocked
H> offer instance=3
G> RESUME
G> GPADL_HEADER relid=1 gpadl=2 pages=4
save
restore
= paused 1
= accepting 0
G< silence
guest ready
G< OPEN_RESULT relid=1 status=OK
G< OFFER_CHANNEL relid=2
G< OFFER_CHANNEL relid=3
H< gpadl relid=1 gpadl=2
save
restore
guest blocked
guest ready
silence
