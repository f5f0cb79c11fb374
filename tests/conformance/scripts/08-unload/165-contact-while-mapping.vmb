# A contact that is still being mapped is answered before the newer one ends it.
case 165
option guest-pages manual-pages
G> INITIATE_CONTACT version=5.3 vp=1 page1=0x10000 page2=0x20000
= connecting
G> INITIATE_CONTACT version=5.2 vp=2
G< silence
pages ok
G< VERSION_RESPONSE supported=1 @vp=1
G< VERSION_RESPONSE supported=1 @vp=2
= connected 5.2
