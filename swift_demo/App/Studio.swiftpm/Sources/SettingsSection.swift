import KDDiffusion
import KDStudio
import SwiftUI

/// The numbers.
struct SettingsSection: View {
    /// What the model allows.
    let rules: SettingsRules

    @Environment(Studio.self) private var studio

    var body: some View {
        @Bindable var studio = studio
        Section("Settings") {
            StepsRow()
            GuidanceRow()
            SeedRow()
            SizeRows(rules: rules)
            if rules.samplers.count > 1 {
                Picker("Sampler", selection: $studio.sampler) {
                    ForEach(rules.samplers) { Text($0.name).tag($0.name) }
                }
            }
            Stepper(value: $studio.settings.images, in: 1...SettingsRules.mostImages) {
                LabeledContent("Pictures", value: "\(studio.settings.images)")
            }
            Toggle("Live preview", isOn: $studio.livePreview)
            Toggle("Less memory, more waiting", isOn: $studio.wantsReducedMemory)
                .disabled(studio.phase.isBusy)
                .accessibilityHint("Holds one part of the model in memory at a time")
        }
    }
}

/// The number of steps, one of those that the sampler has tables for.
struct StepsRow: View {
    @Environment(Studio.self) private var studio

    var body: some View {
        @Bindable var studio = studio
        if studio.stepChoices.count > 1 {
            Stepper(value: $studio.stepIndex, in: 0...(studio.stepChoices.count - 1)) {
                LabeledContent("Steps", value: "\(studio.settings.steps)")
            }
        } else {
            LabeledContent("Steps", value: "\(studio.settings.steps)")
        }
    }
}

/// The guidance scale.
struct GuidanceRow: View {
    @Environment(Studio.self) private var studio

    var body: some View {
        @Bindable var studio = studio
        VStack(alignment: .leading) {
            LabeledContent("Guidance", value: text)
                .accessibilityHidden(true)
            Slider(value: $studio.settings.guidance, in: 0...20, step: 0.5) {
                Text("Guidance")
            }
            .accessibilityValue(text)
        }
    }

    private var text: String {
        studio.settings.guidance <= 1
            ? "off" : studio.settings.guidance.formatted(.number.precision(.fractionLength(1)))
    }
}

/// The seed; an empty field means another one each time.
struct SeedRow: View {
    @Environment(Studio.self) private var studio

    var body: some View {
        @Bindable var studio = studio
        LabeledContent("Seed") {
            TextField("Random", text: $studio.seedText)
                .keyboardType(.numberPad)
                .multilineTextAlignment(.trailing)
                .accessibilityLabel("Seed")
        }
    }
}
