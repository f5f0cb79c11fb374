# A subchannel without its primary is not looked for after a suspension; a relid out of range is no device.
case 050 174 175
side guest
version 5.3
offer relid=5 interface=1 instance=1
offer relid=6 interface=1 instance=2 subchannel=1
A> suspend
G> UNLOAD
G< UNLOAD_COMPLETE
A< gone relid=6
A< suspended
A< done op=suspend
A> resume
G> INITIATE_CONTACT
G< VERSION_RESPONSE
G> REQUEST_OFFERS
G< OFFER_CHANNEL relid=2048 interface=1 instance=1
= refused 1
= channels 0
G< OFFER_CHANNEL relid=9 interface=1 instance=1
A< resumed relid=9 was=5
A< done op=resume
