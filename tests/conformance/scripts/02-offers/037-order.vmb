# Relids go by interface, then order (none last), then instance; GUIDs compare as numbers.
case 037
offer interface=3 instance=3
offer interface=10 instance=10
offer interface=5 instance=5
offer interface=17 instance=17
offer interface=5 instance=6 order=2
offer interface=5 instance=8 order=1
offer interface=5 instance=1
G> INITIATE_CONTACT version=5.3
G< VERSION_RESPONSE supported=1
G> REQUEST_OFFERS
G< OFFER_CHANNEL relid=1 interface=3 instance=3
G< OFFER_CHANNEL relid=2 interface=5 instance=8
G< OFFER_CHANNEL relid=3 interface=5 instance=6
G< OFFER_CHANNEL relid=4 interface=5 instance=1
G< OFFER_CHANNEL relid=5 interface=5 instance=5
G< OFFER_CHANNEL relid=6 interface=10 instance=10
G< OFFER_CHANNEL relid=7 interface=17 instance=17
G< ALL_OFFERS_DELIVERED
