# Before it unloads, a suspended guest is rid of subchannels and sockets; they are not looked for later.
case 175
side guest
version 5.3
offer relid=5 interface=1 instance=1
offer relid=6 interface=1 instance=1 subchannel=1
offer relid=7 interface=9 instance=7 flags=0x2011
open relid=5
open relid=6
open relid=7
A> suspend
A< detach relid=7
G> CLOSE_CHANNEL relid=7
A< gone relid=7
G> RELID_RELEASED relid=7
G> CLOSE_CHANNEL relid=6
G> GPADL_TEARDOWN relid=6
G< GPADL_TORNDOWN gpadl=0xE1E11
G> CLOSE_CHANNEL relid=5
G> GPADL_TEARDOWN relid=5
G< GPADL_TORNDOWN gpadl=0xE1E10
G> silence
G< RESCIND_OFFER relid=6
G> RELID_RELEASED relid=6
G> UNLOAD
G< UNLOAD_COMPLETE
A> resume
G> INITIATE_CONTACT
G< VERSION_RESPONSE
G> REQUEST_OFFERS
G< OFFER_CHANNEL relid=2 interface=9 instance=7 flags=0x2011
A< offered relid=2
G< OFFER_CHANNEL relid=3 interface=1 instance=1
A< resumed relid=3 was=5
A< done op=resume
