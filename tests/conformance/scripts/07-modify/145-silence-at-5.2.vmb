# At 5.2 a failure has no answer either.
case 145
version 5.2
offer
G> MODIFY_CHANNEL relid=1 vp=1
G> MODIFY_CHANNEL relid=9 vp=1
= refused 2
G< silence
