/**
 * The 256 words of pairing codes. They are common, easy to say on the telephone, and have 4 to 8
 * letters. They differ from each other in three letters or more, so that a slip makes no other word
 * of the list.
 */
export const PAIRING_WORDS: readonly string[] = `
  acorn airport album almond alpine amber anchor anvil apple aspen atlas attic aurora autumn badge
  balcony balloon bamboo banana barley basket beacon beaver bicycle biscuit blossom bluebird
  bonfire bottle bracelet breeze brick buffalo butter cabbage cabin cactus camel candle canyon
  capsule caravan carpet cedar cello charcoal cherry chestnut chimney cinema circus clover cobalt
  cobra coconut compass concert copper cotton coyote cricket crystal cupboard curtain daffodil
  dagger daisy desert diamond dolphin domino donkey doorbell dragon drummer eagle eclipse elbow
  elephant elevator emerald engine envelope evening express fabric feather festival fiddle firefly
  flamingo flannel flute forest fortress fossil fountain furnace galaxy gallery garden garlic
  ginger giraffe glacier granite guitar hammock handbook harbor harmonic harvest hedgehog helmet
  hexagon hickory highway horizon hornet iceberg igloo indigo island ivory jaguar jasmine jigsaw
  journal jungle juniper kayak keyboard kingdom kitchen ladder lantern lavender lemon leopard
  library limerick lizard lobster locket magnet mandolin marathon marble meadow meteor midnight
  mirror mitten mosaic muffin museum mushroom mustard napkin needle nickel notebook nutmeg oasis
  ocean octopus olive onion opal orange orchid ostrich outpost palace pancake panda paper parrot
  passport peanut pebble pelican pencil penguin piano pickle pigeon pillow pinecone pirate poppy
  postcard pumpkin puppet puzzle pyramid quartz quilt rabbit radish raincoat raven ribbon saffron
  sailboat seahorse shovel silver skipper snowman spider sponge spruce stadium starfish sugar
  summit sundial sunset swallow sycamore tapestry teapot temple thimble thunder toffee tomato
  tornado treasure triangle trumpet tugboat tulip tundra tunnel turkey turtle twilight umbrella
  unicorn vanilla village vineyard violin volcano voyage waffle walnut whistle wildcat windmill
  window woodwind workshop zigzag
`.trim().split(/\s+/);
