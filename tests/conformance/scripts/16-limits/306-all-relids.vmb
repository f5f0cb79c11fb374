# 2047 channels, and not one more; the first and the last of them work.
case 306
version 5.3
offers 2047
open relid=1
open relid=2047 vp=3
= relids 2047
H> offer
H< offer_result status=FAILED
G< silence
= channels 2047
= open 2
