# At 5.3 the answer comes when the device has seen the new VP.
case 144
version 5.3
offer
open relid=1 vp=0
G> MODIFY_CHANNEL relid=1 vp=3
B< SetTarget relid=1 vp=3
H< retarget relid=1 vp=3
G< silence
H> done(0)
G< MODIFY_CHANNEL_RESPONSE relid=1 status=OK @size=16
= channel 1 open vp=3
