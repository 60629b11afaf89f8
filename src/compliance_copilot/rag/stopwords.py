"""Function words per language: what carries no subject, and what gives a language away.

Lists of pronouns, articles, prepositions, conjunctions and auxiliaries. Words that a regulation
leans on ("not", "shall", "must") are left in the index where they tell chunks apart little and
cost nothing: their idf is near 0.
"""

from collections.abc import Mapping
from types import MappingProxyType

_ENGLISH = """
a about above after again against all am an and any are as at be because been before being below
between both but by can could did do does doing down during each few for from further had has have
having he her here hers him his how i if in into is it its itself just me more most my no nor of
off on once only or other our out over own same she should so some such than that the their theirs
them then there these they this those through to too under until up upon very was we were what when
where which while who whom why will with would you your eg ie
"""

_GERMAN = """
aber alle allem allen aller alles als also am an andere anderen anderer anderes auch auf aus bei
beim bin bis bist da damit dann das dass dazu dem den denn der des dessen deren die dies diese
diesem diesen dieser dieses doch dort du durch ein eine einem einen einer eines er es etwas euch
euer eure für gegen hat hatte haben hier hin hinter ich ihm ihn ihnen ihr ihre ihrem ihren ihrer
ihres im in indem ins ist ja jede jedem jeden jeder jedes jene kann kein keine keinem keinen keiner
können man manche mein meine mich mir mit nach noch nun nur ob oder ohne sehr sein seine seinem
seinen seiner seines seit sich sie sind so solche sollen sollte sondern sonst soweit über um und
uns unser unsere unter vom von vor war waren warum was weil welche welchem welchen welcher welches
wenn wer werden wie wieder wird wo worden wurde wurden zu zum zur zwar zwischen
"""

_FRENCH = """
à au aux avec ce ces cet cette comme dans de des dont du elle elles en entre est et être il ils
je la le les leur leurs lors lui mais me même mes moi mon ne nos notre nous on ont ou où par pas
pour qu que quel quelle quelles quels qui sa sans se ses si son sont sous sur ta te toi ton tous
tout toute toutes tu un une vos votre vous y été était
"""

_SPANISH = """
al algo algunas algunos ante antes como con cual cuando de del desde donde durante e el ella ellas
ellos en entre era es esa ese eso esta estas este esto estos está están fue ha han hasta la las le
les lo los más me mi muy ni no nos o os para pero por porque que quien qué se ser si sin sobre son
su sus también tanto te tiene todo todos tu un una uno unos y ya
"""

_ITALIAN = """
a ad agli ai al alla alle allo anche che chi ci come con cui da dagli dai dal dalla dalle de degli
dei del della delle dello di dove e ed è era gli ha hanno i il in io l la le lo loro ma mi ne negli
nei nel nella nelle nello non nostro o per perché più quale quali quando quella quello questa
queste questi questo se si sia sono su sua sue sugli sui sul sulla sulle suo un una uno
"""

_DUTCH = """
aan al alle als bij dan dat de der deze die dit door een en er haar had heb hebben heeft het hier
hij hoe hun ik in is je kan maar meer men met mijn naar niet nog nu of om omdat onder ons ook op
over te tot tussen u uit van veel voor waar waren was wat welke werd wie wij wordt worden ze zich
zij zijn zo zonder zou
"""

STOP_WORDS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "en": frozenset(_ENGLISH.split()),
        "de": frozenset(_GERMAN.split()),
        "fr": frozenset(_FRENCH.split()),
        "es": frozenset(_SPANISH.split()),
        "it": frozenset(_ITALIAN.split()),
        "nl": frozenset(_DUTCH.split()),
    }
)
