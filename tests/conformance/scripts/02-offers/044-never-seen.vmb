# Offered and withdrawn before the list: the guest hears of neither.
case 044
offer instance=1
offer instance=2
revoke id=1
G> INITIATE_CONTACT version=5.3
G< VERSION_RESPONSE supported=1
revoke id=2
G> REQUEST_OFFERS
G< ALL_OFFERS_DELIVERED
= channels 0
