# With absolute ordering the order comes before interface and instance.
case 038
option absolute-order
offer interface=3 instance=3 order=6
offer interface=10 instance=10 order=5
offer interface=5 instance=5 order=4
offer interface=17 instance=17
offer interface=5 instance=6 order=3
offer interface=5 instance=8 order=2
offer interface=5 instance=1 order=1
G> INITIATE_CONTACT version=5.3
G< VERSION_RESPONSE
G> REQUEST_OFFERS
G< OFFER_CHANNEL relid=1 instance=1
G< OFFER_CHANNEL relid=2 instance=8
G< OFFER_CHANNEL relid=3 instance=6
G< OFFER_CHANNEL relid=4 instance=5
G< OFFER_CHANNEL relid=5 instance=10
G< OFFER_CHANNEL relid=6 instance=3
G< OFFER_CHANNEL relid=7 instance=17
G< ALL_OFFERS_DELIVERED
