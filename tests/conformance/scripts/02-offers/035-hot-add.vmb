# What was offered before the guest asked is in the list, what comes later is an offer of its own.
case 035
offer instance=1
G> INITIATE_CONTACT version=5.3
G< VERSION_RESPONSE supported=1
offer instance=2
G< silence
G> REQUEST_OFFERS
G< OFFER_CHANNEL instance=1
G< OFFER_CHANNEL instance=2
G< ALL_OFFERS_DELIVERED
H> offer instance=3
G< OFFER_CHANNEL instance=3 relid=3
