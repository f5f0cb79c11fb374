# The bus answers, and the script does not say so.
#= 5:1: expected nothing more before `G> UNLOAD`, got
#= G< VERSION_RESPONSE supported=1
G> INITIATE_CONTACT version=5.3
G> UNLOAD
