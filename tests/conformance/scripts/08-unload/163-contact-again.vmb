# A contact while connected ends the old connection first, without a word about it.
case 163
version 5.3
offer
open relid=1
G> INITIATE_CONTACT version=5.3
H< close relid=1
H< teardown gpadl=1
G< silence
H> done
H> done
G< VERSION_RESPONSE supported=1
= connected 5.3
= open 0
