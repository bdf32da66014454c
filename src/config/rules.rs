//! The settings of guardrails: what all of them have, and what each adds to it.
//!
//! A guardrail's own settings are a type of its own, in its file; here they are only put together.

use std::fmt;
use std::marker::PhantomData;

use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, Error, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, forward_to_deserialize_any};

use super::mode::Mode;
use crate::rules::catalogue::{self, each_guardrail};
use crate::rules::{Guardrail, Mistake, OwnSettings};

/// What every guardrail can be told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(default)]
pub struct CommonSettings {
    /// The mode of this guardrail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Whether findings that are likely, but not proven, refuse too under enforce.
    pub refuse_likely: bool,
    /// Whether objects may carry annotations that allow what this guardrail finds. Built in: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_annotations: Option<bool>,
}

/// Settings of one guardrail.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, inline)]
pub struct RuleSettings<S> {
    /// What every guardrail can be told.
    #[serde(flatten)]
    pub common: CommonSettings,
    /// What only this one can be told.
    #[serde(flatten)]
    pub own: S,
}

/// The keys of [`CommonSettings`].
const COMMON_KEYS: [&str; 3] = ["mode", "refuseLikely", "allowAnnotations"];

macro_rules! rules {
    ($($rule:ident),* $(,)?) => {
        /// Settings of guardrails, by name.
        #[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
        #[serde(rename_all = "kebab-case")]
        #[schemars(deny_unknown_fields, default)]
        pub struct Rules {
            $(
                /// Settings of this guardrail.
                #[serde(skip_serializing_if = "is_default")]
                pub $rule: RuleSettings<crate::rules::$rule::Settings>,
            )*
        }

        impl Rules {
            /// What is said of a guardrail; `None` where there is none of that name.
            #[must_use]
            pub fn get(&self, name: &str) -> Option<&CommonSettings> {
                $(if name == crate::rules::$rule::META.name {
                    return Some(&self.$rule.common);
                })*
                None
            }

            /// The same, to be changed.
            pub fn get_mut(&mut self, name: &str) -> Option<&mut CommonSettings> {
                $(if name == crate::rules::$rule::META.name {
                    return Some(&mut self.$rule.common);
                })*
                None
            }

            /// Builds every guardrail, in the order of the catalogue.
            ///
            /// # Errors
            /// The pointer of the setting that cannot be used, and why.
            pub(super) fn build(&self) -> Result<Vec<Guardrail>, Mistake> {
                Ok(vec![$({
                    let meta = &crate::rules::$rule::META;
                    let rule = self.$rule.own.build().map_err(|mistake| mistake.of(meta.name))?;
                    Guardrail { meta, rule }
                },)*])
            }
        }

        impl<'de> Deserialize<'de> for Rules {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Reader;
                impl<'de> Visitor<'de> for Reader {
                    type Value = Rules;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("a map from the names of guardrails to their settings")
                    }

                    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Rules, A::Error> {
                        let mut rules = Rules::default();
                        while let Some(name) = map.next_key::<String>()? {
                            $(if name == crate::rules::$rule::META.name {
                                rules.$rule = map.next_value_seed(OfRule::new(&name))?;
                                continue;
                            })*
                            return Err(A::Error::custom(catalogue::no_such(&name, "rules")));
                        }
                        Ok(rules)
                    }
                }
                deserializer.deserialize_map(Reader)
            }
        }
    };
}
each_guardrail!(rules);

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Reads the settings of the guardrail of this name.
struct OfRule<'a, S> {
    name: &'a str,
    own: PhantomData<S>,
}

/// A map of settings without the keys that all guardrails have, which are read on the way.
///
/// serde's own `flatten` would do the same, but lose the places of mistakes.
struct WithoutCommon<'a, A> {
    name: &'a str,
    map: A,
    common: &'a mut CommonSettings,
    own_keys: &'static [&'static str],
}

// === impl OfRule ===

impl<'a, S> OfRule<'a, S> {
    fn new(name: &'a str) -> Self {
        let own = PhantomData;
        Self { name, own }
    }
}

impl<'de, S: OwnSettings> DeserializeSeed<'de> for OfRule<'_, S> {
    type Value = RuleSettings<S>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, S: OwnSettings> Visitor<'de> for OfRule<'_, S> {
    type Value = RuleSettings<S>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the settings of {}, such as {{mode: audit}}", self.name)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        let mut common = CommonSettings::default();
        let own = S::deserialize(WithoutCommon {
            name: self.name,
            map,
            common: &mut common,
            own_keys: &[],
        })?;
        Ok(RuleSettings { common, own })
    }
}

// === impl WithoutCommon ===

impl<'de, A: MapAccess<'de>> Deserializer<'de> for WithoutCommon<'_, A> {
    type Error = A::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, A::Error> {
        MapAccessDeserializer::new(self).deserialize_any(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        mut self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        self.own_keys = fields;
        visitor.visit_map(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for WithoutCommon<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        while let Some(key) = self.map.next_key::<String>()? {
            match key.as_str() {
                "mode" => self.common.mode = self.map.next_value()?,
                "refuseLikely" => self.common.refuse_likely = self.map.next_value()?,
                "allowAnnotations" => self.common.allow_annotations = self.map.next_value()?,
                own if self.own_keys.contains(&own) => {
                    return seed.deserialize(key.into_deserializer()).map(Some);
                }
                other => {
                    let keys = COMMON_KEYS.iter().chain(self.own_keys);
                    let keys = keys.copied().collect::<Vec<_>>().join(", ");
                    return Err(A::Error::custom(format!(
                        "rules.{}.{other}: this guardrail has no such setting; remove it, or write one of {keys}",
                        self.name
                    )));
                }
            }
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}
