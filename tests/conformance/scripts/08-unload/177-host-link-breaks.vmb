# A host that goes takes its offers along, subchannels first; those of others stay.
case 177 113
version 5.3
offer interface=1 instance=1 host=0
offer interface=2 instance=2 host=1
offer interface=2 instance=2 subchannel=1 host=1
open relid=1
open relid=2
host 1 dead
G< RESCIND_OFFER relid=3
G< RESCIND_OFFER relid=2
= open 1
G> MODIFY_CHANNEL relid=1 vp=2
H< retarget relid=1
H> done
G< MODIFY_CHANNEL_RESPONSE relid=1 status=OK
