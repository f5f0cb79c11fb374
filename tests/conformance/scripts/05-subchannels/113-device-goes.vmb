# The device goes: its subchannels first.
case 113
version 5.3
offer max_subchannels=3
open relid=1
H> enable_subchannels relid=1 count=3
G< OFFER_CHANNEL relid=2 subchannel=1
G< OFFER_CHANNEL relid=3 subchannel=2
G< OFFER_CHANNEL relid=4 subchannel=3
H> revoke id=1
order any
G< RESCIND_OFFER relid=2
G< RESCIND_OFFER relid=3
G< RESCIND_OFFER relid=4
order exact
G< RESCIND_OFFER relid=1
