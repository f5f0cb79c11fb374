# Interface, instance and index together are what an offer is known by.
case 040
version 5.3
offer interface=1 instance=1
H> offer interface=1 instance=1
H< offer_result status=UNSUCCESSFUL
G< silence
H> offer interface=1 instance=1 subchannel=1
G< OFFER_CHANNEL relid=2 subchannel=1
H1> offer interface=1 instance=1
H1< offer_result status=FAILED
= channels 2
