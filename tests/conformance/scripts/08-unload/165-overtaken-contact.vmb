# While a connection ends, the newest contact counts.
case 165
version 5.3
offer
open relid=1
G> INITIATE_CONTACT version=5.3 vp=1
H< close relid=1
H< teardown gpadl=1
G> INITIATE_CONTACT version=5.3 vp=2
G< silence
H> done
H> done
G< VERSION_RESPONSE supported=1 @vp=2
= connected 5.3
