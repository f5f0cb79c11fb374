# Closing the primary takes its subchannels: rescinded, closed, their GPADLs forgotten.
case 114 115
version 5.3
offer max_subchannels=2
open relid=1
H> enable_subchannels relid=1 count=2
G< OFFER_CHANNEL relid=2 subchannel=1
G< OFFER_CHANNEL relid=3 subchannel=2
open relid=2
order any
G> CLOSE_CHANNEL relid=1
G< RESCIND_OFFER relid=2
G< RESCIND_OFFER relid=3
H< close relid=1
H< close relid=2
H< withdraw relid=2
H< withdraw relid=3
H> closed relid=2
H> revoke relid=2
H> revoke relid=3
H> closed relid=1
G> RELID_RELEASED relid=2
G> RELID_RELEASED relid=3
= channels 1
= gpadls 1
G> OPEN_CHANNEL relid=1
H< open relid=1
H> done
G< OPEN_RESULT status=OK
# What was meant for the open before is dropped.
H> enable_subchannels id=1 count=2 generation=1
H< silence
G< silence
H> enable_subchannels id=1 count=2
G< OFFER_CHANNEL relid=2 subchannel=1
G< OFFER_CHANNEL relid=3 subchannel=2
