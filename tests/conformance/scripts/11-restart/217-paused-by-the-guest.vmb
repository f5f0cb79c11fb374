# A guest that is about to be saved waits for what it is owed, then pauses; restored, it resumes where it was.
case 217
version 6.0 features=PAUSE_RESUME
offer instance=1
offer instance=2
open relid=1
revoke relid=2
G< RESCIND_OFFER relid=2
G> MODIFY_CHANNEL relid=1 vp=3
H< retarget vp=3
G< silence
H> done
G< MODIFY_CHANNEL_RESPONSE relid=1 status=OK
G> PAUSE
G< PAUSE_RESPONSE
H> offer instance=3
save
restore
save
restore
= paused 1
G< silence
G> RESUME
G< OFFER_CHANNEL relid=3
= channel 1 open vp=3
= channel 2 revoked
