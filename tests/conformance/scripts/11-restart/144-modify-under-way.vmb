# A retarget that the device has not answered is still answered once after the restart.
version 5.3
offer
open relid=1
G> MODIFY_CHANNEL relid=1 vp=2
H< retarget vp=2
save
restore
= connected 5.3
= channel 1 open vp=2
H> done(0)
G< MODIFY_CHANNEL_RESPONSE relid=1 status=OK
H> retargeted vp=2
= refused 1
