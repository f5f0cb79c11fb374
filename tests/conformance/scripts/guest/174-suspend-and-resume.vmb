# A resumed guest asks for the version it had and finds its devices by their instance, whatever their relids.
case 174
side guest
option versions=5.3,5.2,5.1
A> connect
G> INITIATE_CONTACT version=5.3
G< VERSION_RESPONSE supported=0
G> INITIATE_CONTACT version=5.2
G< VERSION_RESPONSE supported=1
G> REQUEST_OFFERS
G< OFFER_CHANNEL relid=5 interface=1 instance=1 connection=0x2005
G< OFFER_CHANNEL relid=6 interface=2 instance=2
G< ALL_OFFERS_DELIVERED
open relid=5
A> suspend
G> CLOSE_CHANNEL relid=5
G> GPADL_TEARDOWN relid=5
G< OFFER_CHANNEL relid=7 interface=3 instance=3
= refused 1
= suspending
G< GPADL_TORNDOWN gpadl=0xE1E10
A< free relid=5
G> UNLOAD
G< UNLOAD_COMPLETE
A< done op=suspend
= suspended
A> open relid=5
A< error op=open kind=UsageError
A> resume
G> INITIATE_CONTACT version=5.2
G< VERSION_RESPONSE supported=1
G> REQUEST_OFFERS
G< OFFER_CHANNEL relid=5 interface=2 instance=2
A< resumed relid=5 was=6
G< OFFER_CHANNEL relid=8 interface=4 instance=4
A< offered relid=8
G< OFFER_CHANNEL relid=6 interface=1 instance=1 connection=0x3006
A< resumed relid=6 was=5
A< done op=resume
= channel 6 closed instance=1 connection=0x3006
= channels 3
A> open relid=6
G> GPADL_HEADER relid=6 gpadl=0xE1E11
