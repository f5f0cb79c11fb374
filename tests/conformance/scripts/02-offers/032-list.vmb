# Offers made before contact come in one list.
case 032
offer interface=1 instance=1
offer interface=1 instance=2
offer interface=1 instance=3
G> INITIATE_CONTACT version=5.3
G< VERSION_RESPONSE supported=1
G< silence
G> REQUEST_OFFERS
G< OFFER_CHANNEL relid=1 instance=1
G< OFFER_CHANNEL relid=2 instance=2
G< OFFER_CHANNEL relid=3 instance=3
G< ALL_OFFERS_DELIVERED
= channels 3
