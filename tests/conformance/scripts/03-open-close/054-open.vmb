# Opening a channel: the device is asked with the guest's values, and the guest hears nothing before it answers.
case 054 072
version 5.3
offer
gpadl relid=1 gpadl=1

G> OPEN_CHANNEL relid=1 open_id=1 gpadl=1 vp=3 offset=2
H< open relid=1 gpadl=1 vp=3 offset=2
G< silence
H> done(0)
G< OPEN_RESULT relid=1 open_id=1 status=OK
= connected 5.3
= channels 1
= open 1
= refused 0
