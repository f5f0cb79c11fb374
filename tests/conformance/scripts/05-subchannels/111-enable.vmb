# A device that declared subchannels enables them once its primary is open.
case 111 112 121
version 5.3
offer max_subchannels=3
open relid=1
H> enable_subchannels relid=1 count=3
H< subchannels_enabled status=OK live=3
G< OFFER_CHANNEL relid=2 interface=1 instance=1 subchannel=1
G< OFFER_CHANNEL relid=3 interface=1 instance=1 subchannel=2
G< OFFER_CHANNEL relid=4 interface=1 instance=1 subchannel=3
H> enable_subchannels relid=1 count=4
H< subchannels_enabled status=FAILED
G< silence
H> enable_subchannels relid=1 count=2
H< subchannels_enabled status=OK live=3
G< silence
gpadl relid=2 gpadl=2
gpadl relid=3 gpadl=3
G> OPEN_CHANNEL relid=2 vp=1
H< open relid=2 event_flag=2 vp=1 gpadl=2
H> done
G< OPEN_RESULT relid=2 status=OK
G> OPEN_CHANNEL relid=3 vp=2
H< open relid=3 event_flag=3 vp=2 gpadl=3
H> done
G< OPEN_RESULT relid=3 status=OK
= open 3
