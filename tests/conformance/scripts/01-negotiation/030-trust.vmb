# A connection made by a trusted message hears trusted messages only.
case 030
offer
G> INITIATE_CONTACT version=6.0 @trusted
G< VERSION_RESPONSE supported=1
G> REQUEST_OFFERS @untrusted
= refused 1
G< silence
G> REQUEST_OFFERS @trusted
G< OFFER_CHANNEL
G< ALL_OFFERS_DELIVERED
