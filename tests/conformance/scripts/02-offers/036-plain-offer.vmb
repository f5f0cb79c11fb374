# Every field of an ordinary offer.
case 036 043
H> offer interface=f8e65716-3cb3-4a06-9a60-1889c5cccab5 instance=7 mmio=5 mmio_optional=9 subchannel=0
H< offer_result status=OK
G> INITIATE_CONTACT version=5.3
G< VERSION_RESPONSE supported=1
G> REQUEST_OFFERS
G< OFFER_CHANNEL relid=1 interface=f8e65716-3cb3-4a06-9a60-1889c5cccab5 instance=7 flags=0 mmio=5 \
    mmio_optional=9 subchannel=0 monitor=0xff allocated=0 dedicated=1 connection=0x2001 user_data=00 @size=196
G< ALL_OFFERS_DELIVERED
H> offer interface=1 instance=1 subchannel=4
G< OFFER_CHANNEL relid=2 subchannel=4 connection=0x2002
