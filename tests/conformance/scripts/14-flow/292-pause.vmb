# After PAUSE_RESPONSE nothing is sent until the guest resumes; what became ready meanwhile comes in order.
case 292 293
version 6.0 features=PAUSE_RESUME
offer
gpadl
G> OPEN_CHANNEL relid=1
H< open relid=1
G> PAUSE
G< PAUSE_RESPONSE @size=8
= paused 1
H> done(0)
H> offer instance=2
G< silence
G> CLOSE_CHANNEL relid=1
G> PAUSE
G> REQUEST_OFFERS
= refused 3
= paused 1
G> RESUME
G< OPEN_RESULT relid=1 status=OK
G< OFFER_CHANNEL relid=2
= paused 0
G> RESUME
