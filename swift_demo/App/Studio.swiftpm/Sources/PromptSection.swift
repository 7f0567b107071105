import KDStudio
import SwiftUI

/// The texts.
struct PromptSection: View {
    /// What the model allows.
    let rules: SettingsRules

    @Environment(Studio.self) private var studio

    var body: some View {
        @Bindable var studio = studio
        Section("Prompt") {
            TextField("What to draw", text: $studio.settings.prompt, axis: .vertical)
                .lineLimit(2...6)
            if rules.takesNegativePrompt {
                TextField("What to avoid", text: $studio.negativeText, axis: .vertical)
                    .lineLimit(1...4)
                    .accessibilityLabel("Negative prompt")
            }
        }
    }
}
